"""Every operation of knetc: one record each, a file a family; composites are plain functions over them."""
