"""A training loop over devices, seeds and steps that never changes masks.

`rng` owns the key streams, `state` and `task` what is trained and on what,
`batches` the rows of a step, `step` one step of one member (`guided` and
`windows` train it in ways of their own), `parallel` and `sharded` the devices,
`program` what is compiled for them, `loop` the run, `metrics` and `checkpoint`
what it leaves on disk, by way of `files` and `digests`.
"""
