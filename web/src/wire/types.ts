// Made by scripts/make_web_types.py from the Python structs: change those, and run it again.

export interface ExplorerFacts {
  experimentId: string;
  version: string;
  key: string;
  file: string;
  cells: number;
  genes: number;
  maxCellId: number;
  samples: number;
  assay: string;
  writer: string;
  fallbacks: string[];
  reductions: ReductionFacts[];
  defaultReduction: string;
  numbers: string[];
  tissues: TissueFacts[];
  ownColours: boolean;
  savedIn: string;
}

export interface ReductionFacts {
  name: string;
  dimensions: number;
  isMap: boolean;
}

export interface TissueFacts {
  name: string;
  width: number;
  height: number;
}

export interface EmbeddingBody {
  type: string;
  useSaved?: boolean;
  config?: Record<string, unknown> | null;
}

export interface ListGenesBody {
  orderBy?: string | null;
  orderDirection?: "ASC" | "DESC" | "asc" | "desc";
  offset?: number;
  limit?: number | null;
  geneNamesFilter?: string | null;
  selectFields?: unknown;
}

export interface DifferentialExpressionBody {
  cellSet: string;
  compareWith: string;
  basis?: string | null;
  comparisonType?: "between" | "within";
  genesOnly?: boolean;
}

export interface BatchDifferentialExpressionBody {
  cellSet: string[];
  compareWith: string;
  basis: string[];
  comparisonType?: "between" | "within";
}

export interface GeneExpressionBody {
  genes: string[];
  downsampleSettings?: DownsampleSettings | null;
}

export interface DownsampleSettings {
  selectedCellSet?: string | null;
  groupedTracks?: string[];
  cellIds?: number[] | null;
}

export interface BackgroundGenesBody {
  cellSet: string;
  compareWith: string;
  basis?: string | null;
  comparisonType?: string;
}

export interface ClusterCellsBody {
  type: "leiden" | "louvain";
  cellSetKey?: string | null;
  cellSetName?: string | null;
  config?: ClusterConfig;
}

export interface ClusterConfig {
  resolution?: number;
}

export interface DotPlotBody {
  groupBy: string;
  useMarkerGenes?: boolean;
  numberOfMarkers?: number;
  customGenesList?: string[] | null;
  filterBy?: GroupFilter;
}

export interface GroupFilter {
  group?: string;
  key?: string;
}

export interface MetadataBody {
}

export interface MarkerHeatmapBody {
  nGenes: number;
  selectedCellSet: string;
}

export interface StartingNodesBody {
  embedding: StoredEmbedding;
  cellSets: string[];
  clustering?: Clustering;
}

export interface StoredEmbedding {
  method: string;
  ETag?: string;
  methodSettings?: Record<string, unknown>;
}

export interface Clustering {
  method?: string;
  resolution?: number | null;
}

export interface PseudoTimeBody {
  embedding: StoredEmbedding;
  cellSets: string[];
  rootNodes: number[];
  clustering?: Clustering;
}

export interface ExpressionCellSetsBody {
  genesConfig: GeneThreshold[];
}

export interface GeneThreshold {
  geneName: string;
  comparisonType: "greaterThan" | "lessThan";
  thresholdValue: number;
}

export interface NormalizedExpressionBody {
  subsetBy?: Record<string, string[] | null> | null;
}

export interface AnnotationBody {
  species: string;
  tissue: string;
  additionalInfo?: string | null;
}

export interface CellCycleBody {
}

export interface DownloadBody {
  embeddingMethod: string;
  isObj2s?: boolean;
  embeddingETag?: string | null;
  format?: string;
}

export interface ListCellColumnsBody {
}

export interface CellColumnBody {
  column: string;
}

export interface ScoreGenesBody {
  genes: string[];
  method?: "scanpy" | "seurat";
  nControls?: number | null;
  nBins?: number | null;
  seed?: number | null;
}

export interface GroupSummariesBody {
  of: Variable;
  groupBy: Grouping;
  within?: string | null;
  nBins?: number;
  nPoints?: number;
}

export interface Variable {
  gene?: string | null;
  column?: string | null;
  score?: GeneSetScore | null;
}

export interface GeneSetScore {
  genes: string[];
  method?: "scanpy" | "seurat";
  nControls?: number | null;
  nBins?: number | null;
  seed?: number | null;
}

export interface Grouping {
  class?: string | null;
  column?: string | null;
  sets?: string[] | null;
}

export interface CompositionBody {
  groupBy: Grouping;
  splitBy: Grouping;
  within?: string | null;
}

export interface ClusterSubsetBody {
  components?: "own" | "saved";
  nGenes?: number;
  nComponents?: number;
  cellSet: string;
  type: "leiden" | "louvain";
  config?: ClusterConfig;
  className?: string | null;
}

export interface SubsetEmbeddingBody {
  components?: "own" | "saved";
  nGenes?: number;
  nComponents?: number;
  cellSet: string;
  type: "pca" | "tsne" | "umap";
  config?: Record<string, unknown> | null;
}

export interface ListStoredResultsBody {
}

export interface StoredResultBody {
  result: string;
  group?: string | null;
  offset?: number;
  limit?: number | null;
}

export interface ListedGenes {
  total: number;
  gene_names: string[];
  dispersions: (number | null)[];
}

export interface ComparedCells {
  total: number;
  data: TestedGenes;
}

export interface TestedGenes {
  gene_names: string[];
  Gene: string[];
  logFC: (number | null)[];
  p_val?: (number | null)[] | null;
  p_val_adj?: (number | null)[] | null;
  pct_1?: (number | null)[] | null;
  pct_2?: (number | null)[] | null;
  auc?: (number | null)[] | null;
  AveExpr?: (number | null)[] | null;
}

export interface ComparedInBatch {
  total: number;
  data: TestedGenes | string;
}

export interface ExpressionOfGenes {
  orderedGeneNames: string[];
  stats: GeneStatistics;
  rawExpression: SparseColumns;
  cellIds: number[];
}

export interface GeneStatistics {
  rawMean: (number | null)[];
  rawStdev: (number | null)[];
  truncatedMin: (number | null)[];
  truncatedMax: (number | null)[];
}

export interface SparseColumns {
  values: (number | null)[];
  index: number[];
  ptr: number[];
  size: number[];
}

export interface BackgroundGenes {
  genes: string[];
}

export interface Dots {
  cellSetsIdx: number[];
  geneNameIdx: number[];
  avgExpression: (number | null)[];
  cellsPercentage: (number | null)[];
  cellSetsNames: string[];
  geneNames: string[];
}

export interface OrderedGenes {
  orderedGeneNames: string[];
}

export interface TrajectoryGraph {
  connectedNodes: number[][];
  x: number[];
  y: number[];
}

export interface PseudoTimes {
  pseudotime: (number | null)[];
}

export interface CellColumns {
  columns: DescribedCellColumn[];
}

export interface DescribedCellColumn {
  name: string;
  kind: "category" | "date" | "logical" | "number" | "text" | "time";
  integer: boolean;
  levels: number | null;
  min: number | string | null;
  max: number | string | null;
  missing: number;
  hasColors: boolean;
  role: string | null;
}

export interface CellColumnValues {
  byCell: boolean;
  column: string;
  kind: "category" | "date" | "logical" | "number" | "text" | "time";
  missing: number;
  colors: string[] | null;
  columns: WireColumn[];
}

export interface WireColumn {
  name: string;
  kind: "category" | "integer" | "logical" | "number" | "sparse" | "text";
  values: unknown[];
  labels?: string[] | null;
  length?: number | null;
  rows?: number[] | null;
}

export interface GeneScores {
  byCell: boolean;
  method: "scanpy" | "seurat";
  nControls: number;
  nBins: number;
  seed: number;
  genes: string[];
  notFound: string[];
  controls: string[];
  columns: WireColumn[];
}

export interface GroupSummaries {
  of: string;
  min: number | null;
  max: number | null;
  probabilities: number[];
  edges: number[];
  points: number[];
  groups: GroupSummary[];
}

export interface GroupSummary {
  key: string;
  name: string;
  color: string | null;
  cells: number;
  missing: number;
  positive: number;
  mean: number | null;
  deviation: number | null;
  quantiles: (number | null)[];
  counts: number[];
  density: number[];
}

export interface Composition {
  groups: CountedGroup[];
  parts: CountedGroup[];
  counts: number[][];
  cells: number;
}

export interface CountedGroup {
  key: string;
  name: string;
  color: string | null;
  cells: number;
}

export interface SubsetPlaces {
  byCell: boolean;
  type: "pca" | "tsne" | "umap";
  components: "own" | "saved";
  columns: WireColumn[];
}

export interface StoredResults {
  results: DescribedResult[];
}

export interface DescribedResult {
  name: string;
  source: string;
  kind: "list" | "table" | "tests" | "values";
  rows: number;
  columns: string[];
  groups: string[];
  parameters: Record<string, string>;
}

export interface StoredResultTable {
  byCell: boolean;
  result: string;
  source: string;
  kind: "list" | "table" | "tests" | "values";
  total: number;
  parameters: Record<string, string>;
  columns: WireColumn[];
}

/** The body of each task, without its name. */
export interface Bodies {
  GetEmbedding: EmbeddingBody;
  ListGenes: ListGenesBody;
  DifferentialExpression: DifferentialExpressionBody;
  BatchDifferentialExpression: BatchDifferentialExpressionBody;
  GeneExpression: GeneExpressionBody;
  GetBackgroundExpressedGenes: BackgroundGenesBody;
  ClusterCells: ClusterCellsBody;
  DotPlot: DotPlotBody;
  GetDoubletScore: MetadataBody;
  GetMitochondrialContent: MetadataBody;
  GetNGenes: MetadataBody;
  GetNUmis: MetadataBody;
  MarkerHeatmap: MarkerHeatmapBody;
  GetTrajectoryAnalysisStartingNodes: StartingNodesBody;
  GetTrajectoryAnalysisPseudoTime: PseudoTimeBody;
  GetExpressionCellSets: ExpressionCellSetsBody;
  GetNormalizedExpression: NormalizedExpressionBody;
  ScTypeAnnotate: AnnotationBody;
  CASSIAAnnotate: AnnotationBody;
  CellCycleScoring: CellCycleBody;
  DownloadAnnotSeuratObject: DownloadBody;
  ListCellColumns: ListCellColumnsBody;
  GetCellColumn: CellColumnBody;
  ScoreGenes: ScoreGenesBody;
  GetGroupSummaries: GroupSummariesBody;
  GetComposition: CompositionBody;
  ClusterSubset: ClusterSubsetBody;
  GetSubsetEmbedding: SubsetEmbeddingBody;
  ListStoredResults: ListStoredResultsBody;
  GetStoredResult: StoredResultBody;
}

/** The result of each task; null where it changes cell sets or answers with a file. */
export interface Results {
  GetEmbedding: (number[] | null)[];
  ListGenes: ListedGenes;
  DifferentialExpression: ComparedCells;
  BatchDifferentialExpression: ComparedInBatch[];
  GeneExpression: ExpressionOfGenes;
  GetBackgroundExpressedGenes: BackgroundGenes;
  ClusterCells: null;
  DotPlot: Dots;
  GetDoubletScore: (number | null)[];
  GetMitochondrialContent: (number | null)[];
  GetNGenes: (number | null)[];
  GetNUmis: (number | null)[];
  MarkerHeatmap: OrderedGenes;
  GetTrajectoryAnalysisStartingNodes: TrajectoryGraph;
  GetTrajectoryAnalysisPseudoTime: PseudoTimes;
  GetExpressionCellSets: null;
  GetNormalizedExpression: null;
  ScTypeAnnotate: null;
  CASSIAAnnotate: null;
  CellCycleScoring: null;
  DownloadAnnotSeuratObject: null;
  ListCellColumns: CellColumns;
  GetCellColumn: CellColumnValues;
  ScoreGenes: GeneScores;
  GetGroupSummaries: GroupSummaries;
  GetComposition: Composition;
  ClusterSubset: null;
  GetSubsetEmbedding: SubsetPlaces;
  ListStoredResults: StoredResults;
  GetStoredResult: StoredResultTable;
}

export type TaskName = keyof Bodies;

/** Tasks whose only effect is a change of the cell sets. */
export const PATCHING_TASKS: readonly TaskName[] = ["ClusterCells", "GetExpressionCellSets", "ScTypeAnnotate", "CASSIAAnnotate", "CellCycleScoring", "ClusterSubset"];

/** Tasks that answer with a file. */
export const FILE_TASKS: readonly TaskName[] = ["GetNormalizedExpression", "DownloadAnnotSeuratObject"];
