"""What routing costs beside a plain `Session`: ratios, measured side by side in one run."""
