"""The control plane: one typed contract over a unix socket."""
