"""Planning of points at which street views are requested: sampling strategies, their layers and charts."""
