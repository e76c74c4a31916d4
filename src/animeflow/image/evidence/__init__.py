"""What a picture's file tells of its origin: one module per place where programs leave their mark. Decides nothing."""
