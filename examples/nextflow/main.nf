#!/usr/bin/env nextflow

// Clusters and markers of every experiment that a pattern names:
//
//     nextflow run main.nf --experiments 'data/*.h5ad'

params.experiments = 'data/*.h5ad'
params.resolution = 0.5
params.outdir = 'results'

process cluster {
    tag "${experiment.baseName}"
    publishDir "${params.outdir}/${experiment.baseName}", mode: 'copy'

    input:
    path experiment

    output:
    tuple val(experiment.baseName), path('clustered.h5ad')

    script:
    """
    cellworker check '${experiment}'
    cellworker cluster '${experiment}' --name cluster --resolution ${params.resolution} --out clustered.h5ad
    """
}

process markers {
    tag "${name}"
    publishDir "${params.outdir}/${name}", mode: 'copy'

    input:
    tuple val(name), path(clustered)

    output:
    path 'markers.parquet'

    script:
    """
    cellworker markers '${clustered}' --by cluster --n 50 --out markers.parquet
    """
}

workflow {
    channel.fromPath(params.experiments, checkIfExists: true) | cluster | markers
}
