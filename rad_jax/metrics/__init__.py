"""How good fillings are: pure functions of images first, then what they add up to.

Images are NHWC, float32 in [-1, 1]; masks are (b, h, w), 1 in the hole. Means over a
data set are of numbers per image, which merge in any order; the distances between sets
of images (`frechet`, `kid`) are of features, accumulated in float64.
"""
