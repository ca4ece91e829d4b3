"""What is known of replicas, without any."""
