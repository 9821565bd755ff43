"""What sets a machine up and shows the farm at work; no part of the product."""
