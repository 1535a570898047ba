"""What Hecate costs, measured side by side with its peers in one run."""
