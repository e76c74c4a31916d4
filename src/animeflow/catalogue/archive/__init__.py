"""Archives and videos read for the pictures in them. Nothing in them is run; what they may cost is bounded."""
