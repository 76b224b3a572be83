"""The gyro dropout paper (Lee et al. 2022): numbers, claims, experiments."""
