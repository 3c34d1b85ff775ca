"""What was measured of whole networks, as stored studies, and the page that is made of them."""
