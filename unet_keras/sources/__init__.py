"""Where annotated images come from: COCO JSON, folders, synthetic cells."""
