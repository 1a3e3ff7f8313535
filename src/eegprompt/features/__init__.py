"""Feature networks that image scores compare images by."""
