"""What models say of pictures: taggers, detectors, masks. Scores are kept beside the catalogue with the tool that gave them."""
