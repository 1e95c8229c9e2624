"""List every image ID of every Amazon ECR repository of a company."""

__version__ = "0.1.0"
