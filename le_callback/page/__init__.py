"""The page that answers first: its data file, the tab in TensorBoard, the same page as a file.

Nothing here may import torch at the top but ``rows`` and ``writer``: TensorBoard imports ``plugin`` whenever it starts.
"""
