"""What is known of each policy: outcomes, their durable log, windows over them."""
