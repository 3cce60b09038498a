"""From fused groups to kernels: the LoopNest record and one package for each kind of target."""
