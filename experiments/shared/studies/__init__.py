"""What single experiments compute beyond training: subnets, tickets, tasks."""
