"""The typed allow-list: one file per endpoint family, with every field a caller may send there."""
