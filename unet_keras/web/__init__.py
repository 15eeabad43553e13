"""A trained network behind HTTP: images in; masks, label maps, outlines and counts out."""
