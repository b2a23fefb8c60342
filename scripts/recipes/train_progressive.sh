# The baseline: a ProGAN on RGB images, with stage 1's numbers and those of its own, up to the images' own size. Further
# flags: python -m SBGAN.train_progressive --help
run SBGAN.train_progressive --logs "$logs" --name "${name}_image" \
    "${stage1[@]}" ${baseline[@]+"${baseline[@]}"} --max_dim "$height"
