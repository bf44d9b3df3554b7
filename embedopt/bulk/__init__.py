"""A data set in, embeddings out: files of any size to a folder of Parquet files."""
