"""A training loop over devices, seeds and steps that never changes masks.

`rng` owns the key streams, `state` what is trained, `step` one step of one
member, `parallel` the devices, `loop` the run, `metrics` and `checkpoint` what
it leaves on disk.
"""
