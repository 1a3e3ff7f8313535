"""Can the class be read from time, drift or leaks instead of the image?"""
