# Stage 1: the layout GAN. Further flags: python -m SBGAN.train_progressive_seg --help
run SBGAN.train_progressive_seg --logs "$logs" --name "${name}_layout" "${stage1[@]}"
