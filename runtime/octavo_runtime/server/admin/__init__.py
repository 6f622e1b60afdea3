"""How the server is, and what it serves: health, load, models, the block map, and the page of the API's reference."""
