"""The administrators' verbs of the command line, one file per noun: ask control, print a table or JSON."""
