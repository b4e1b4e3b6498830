"""Studies: does training on this data make the model less robust?"""
