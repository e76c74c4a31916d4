"""Floor 3: pictures out of a family and a solver, with their recipe in the file. Knows the Family protocol; knows no family."""
