INSERT INTO old VALUES (3, 'again');
