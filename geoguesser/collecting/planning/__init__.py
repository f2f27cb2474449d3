"""Where to ask for street views: sampling strategies, their layers and charts."""
