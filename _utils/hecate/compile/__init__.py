"""From the model to what each system should hold. Pure functions, one file a system."""
