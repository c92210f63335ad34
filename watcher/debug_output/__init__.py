"""smdebug's files on S3 or in a folder: finds, reads and decodes saved tensors."""
