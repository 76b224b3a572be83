"""The k-dropout paper (Bailey and Pauly): its numbers, claims, experiments."""
