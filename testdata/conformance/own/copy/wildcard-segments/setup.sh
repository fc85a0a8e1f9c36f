echo star > 'a*b'; echo plain > aXb
