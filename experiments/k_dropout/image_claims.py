"""Do images a mask decide what frozen batches cost? Fixed before any run.

In frozen batches an image of row r meets one mask for as long as a window
lasts; with one window for the whole run each of m masks sees N / m images, of
N. What the masks cost is a deficit to standard dropout of the same N, order and
seed. Over m and N, m > 1, two slopes are fitted for each seed: deficit = a + b
log2(m / N) + c log2(N). One mask a batch (m = 1) costs for another reason: only
half of the units train at all.
"""

from experiments.judge.contrasts import Claim

CLAIMS = (
  Claim(
    name="fewer_images_a_mask_cost_more",
    paper="k-dropout",
    source="section 3.1, a hypothesis of ours",
    text="frozen, one window: halving the images that a mask sees costs"
    " accuracy, at one number of images",
    measure="deficit_per_halving_of_images_a_mask",
    a={"method": "sequential"},
  ),
  Claim(
    name="images_a_mask_decide",
    paper="k-dropout",
    source="section 3.1, a hypothesis of ours",
    text="frozen, one window: at one number of images a mask, twice the images"
    " change the deficit by less than half a point",
    measure="deficit_per_doubling_of_images",
    a={"method": "sequential"},
    rule="equivalent",
    margin=0.5,
  ),
)
