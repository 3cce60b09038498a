"""What every layer may use: dtypes, errors, configuration."""
