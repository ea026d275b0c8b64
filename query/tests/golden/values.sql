VALUES (1, 0.10, 'x'), (2, 12.5, NULL)
