"""Real images that come with loopmorph: handwritten digits, for what has to run without a download.

`digits.npz` holds 1,797 grey images of 8x8 pixels, (N, H, W, C) uint8, and their labels, 0 to 9. It is the test part of
"Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (UCI Machine Learning Repository, 1998,
doi:10.24432/C50P49), under the licence CC BY 4.0, as scikit-learn has it; the pixels, 0 to 16 there, are times 15 here.
"""

from __future__ import annotations

from pathlib import Path

DIGITS = Path(__file__).with_name("digits.npz")
