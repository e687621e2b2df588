# What test_seurat5.py calls: opens one object and compares it with what it was written from, then works with it.
# Arguments: the object's file, the folder of what is expected. One line for each thing that is wrong; ends with "looked at N".
suppressPackageStartupMessages(library(Seurat))
suppressPackageStartupMessages(library(Matrix))
arguments <- commandArgs(trailingOnly = TRUE)
object <- readRDS(arguments[1])
want <- arguments[2]
looked <- 0

check <- function(what, right) {
  looked <<- looked + 1
  if (!isTRUE(right)) cat("wrong:", what, if (is.character(right)) right[1] else "", "\n")
}
file_of <- function(name) file.path(want, name)
lines_of <- function(name) readLines(file_of(name), encoding = "UTF-8")
doubles <- function(name) readBin(file_of(name), "double", file.size(file_of(name)) / 8, endian = "little")
integers <- function(name) readBin(file_of(name), "integer", file.size(file_of(name)) / 4, endian = "little")
matrix_of <- function(name, shape) {
  sparseMatrix(
    i = integers(paste0(name, ".i")), p = integers(paste0(name, ".p")), x = doubles(paste0(name, ".x")),
    dims = shape, index1 = FALSE
  )
}
# Equal to float32, which is what log-normalised values are kept in; counts are equal to the bit.
same <- function(found, expected, tolerance) {
  found <- as(as(found, "CsparseMatrix"), "generalMatrix")
  if (!identical(dim(found), dim(expected))) return(paste("has the shape", paste(dim(found), collapse = " x ")))
  found <- drop0(found)
  expected <- drop0(expected)
  if (!identical(found@p, expected@p) || !identical(found@i, expected@i)) return("has its values in other places")
  far <- max(0, abs(found@x - expected@x) - tolerance * abs(expected@x))
  if (far > 0) paste("differs by", far) else TRUE
}

cells <- lines_of("cells.txt")
genes <- gsub("_", "-", lines_of("genes.txt"))
shape <- c(length(genes), length(cells))
is_seurat <- inherits(object, "Seurat")
if (is_seurat) {
  check("the object is not valid for Seurat", validObject(object, test = TRUE))
  layer <- function(name) LayerData(object, layer = name)
  metadata <- object[[]]
  reductions <- Reductions(object)
  places <- function(name) Embeddings(object, name)
  cat("class", class(object[[DefaultAssay(object)]]), "\n")
} else {
  suppressPackageStartupMessages(library(SingleCellExperiment))
  check("the object is not valid for Bioconductor", validObject(object, test = TRUE))
  layer <- function(name) assay(object, if (name == "data") "logcounts" else name)
  metadata <- as.data.frame(colData(object), optional = TRUE)
  reductions <- reducedDimNames(object)
  places <- function(name) reducedDim(object, name)
  cat("class", class(object), "\n")
}
check("names of cells", identical(colnames(object), cells))
check("names of genes", identical(gsub("_", "-", rownames(object)), genes))
if (file.exists(file_of("counts.p"))) check("counts", same(layer("counts"), matrix_of("counts", shape), 0))
check("log-normalised values", same(layer("data"), matrix_of("data", shape), 1e-6))

for (k in seq_along(lines_of("columns.txt"))) {
  name <- lines_of("columns.txt")[k]
  found <- metadata[[name]]
  if (name == "samples" && !is.null(found)) {
    # Samples may be called by their names where the platform's objects have ids. A conversion keeps the ids beside; the
    # platform's download does not: there each id has a name of its own.
    ids <- lines_of(paste0("column", k, ".txt"))
    pairs <- unique(data.frame(as.character(found), ids))
    own <- nrow(pairs) == length(unique(ids)) && !anyDuplicated(pairs[[1]])
    if ("sample_ids" %in% colnames(metadata) && !identical(as.character(found), ids)) {
      found <- metadata[["sample_ids"]]
    } else if (own) {
      found <- ids
    }
  }
  what <- paste0("metadata ", name)
  if (is.null(found)) {
    check(what, "is missing")
  } else if (file.exists(file_of(paste0("column", k, ".x")))) {
    check(what, all.equal(as.numeric(found), doubles(paste0("column", k, ".x"))))
  } else {
    labels <- as.character(found)
    labels[is.na(labels)] <- "NA"
    check(what, identical(enc2utf8(labels), enc2utf8(lines_of(paste0("column", k, ".txt")))))
  }
}
for (k in seq_along(lines_of("reductions.txt"))) {
  name <- lines_of("reductions.txt")[k]
  what <- paste0("reduction ", name)
  at <- match(tolower(name), tolower(reductions))
  if (is.na(at)) {
    check(what, paste("is missing among", paste(reductions, collapse = ", ")))
    next
  }
  found <- unname(as.matrix(places(reductions[at])))
  expected <- matrix(doubles(paste0("reduction", k, ".x")), nrow = length(cells), byrow = TRUE)
  check(what, all.equal(found, expected, check.attributes = FALSE))
}

if (is_seurat) {
  # A usual day: what opens but cannot be worked with has not been opened.
  worked <- tryCatch({
    updated <- UpdateSeuratObject(object)
    few <- subset(updated, cells = cells[seq_len(min(100, length(cells)))])
    few <- NormalizeData(few, verbose = FALSE)
    few$half <- rep_len(c("a", "b"), ncol(few))
    Idents(few) <- "half"
    found <- FindMarkers(few, "a", "b", min.pct = 0, logfc.threshold = 0, features = rownames(few)[1:20], verbose = FALSE)
    again <- tempfile(fileext = ".rds")
    saveRDS(updated, again)
    unlink(again)
    nrow(found) > 0
  }, error = function(e) conditionMessage(e))
  check("a usual day", worked)
}
cat("looked at", looked, "\n")
