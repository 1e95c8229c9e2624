# What crawler/aws uses of aiobotocore, which ships no types. What is not here is not ours to touch.
