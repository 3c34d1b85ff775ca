"""The plug-in's schedules: the `.mlir` files of this folder."""
