"""The shop that all examples use: models, a map, data.

``python -m examples.shop`` makes its tables and fills them.
"""
