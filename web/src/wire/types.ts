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
}

export type TaskName = keyof Bodies;

/** Tasks whose only effect is a change of the cell sets. */
export const PATCHING_TASKS: readonly TaskName[] = ["ClusterCells", "GetExpressionCellSets", "ScTypeAnnotate", "CASSIAAnnotate", "CellCycleScoring"];

/** Tasks that answer with a file. */
export const FILE_TASKS: readonly TaskName[] = ["GetNormalizedExpression", "DownloadAnnotSeuratObject"];
