"""Training in PyTorch: recipes, augmentation, the loop, checkpoints, and the experiment that puts them together."""
