# A segmentation network on real pairs, generated ones, or both. Further flags: python -m SBGAN.train_segmenter --help
run SBGAN.train_segmenter --logs "$logs" --name "${name}_segmenter" ${segmenter[@]+"${segmenter[@]}"}
