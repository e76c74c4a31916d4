"""Pictures: decode to sRGB, bucket plan, one resize and crop, lossless encode.

Knows OpenCV, numpy and Pillow; knows no tensor, post or shard.
"""
