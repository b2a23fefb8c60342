# The baseline: a ProGAN on RGB images, with stage 1's numbers, up to the images' own size. Further flags:
# python -m SBGAN.train_progressive --help
run SBGAN.train_progressive --logs "$logs" --name "${name}_image" "${stage1[@]}" --max_dim "$height"
