# The paper's table: ProGAN, SB-GAN without fine-tuning, SB-GAN. Flags go to both tests, such as --fid_released;
# --name NAME is that of the runs NAME_image and NAME_finetune.
take "weights results name" ${rest[@]+"${rest[@]}"}
export store weights results name
for test in test_progressive test_finetune_end2end; do
    bash "$folder/$test.sh" ${rest[@]+"${rest[@]}"}
done
echo
python -m SBGAN.compare --results "$results" --name "$name"
