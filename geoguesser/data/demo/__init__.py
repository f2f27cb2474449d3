"""The synthetic demo country, rendered."""
