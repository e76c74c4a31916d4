"""animeflow: from a booru dump to a rectified-flow checkpoint that ComfyUI and diffusers load.

This module imports nothing, so that `animeflow --help` answers at once; import the rooms you need.
"""

__version__ = "0.1.0"
