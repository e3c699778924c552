// What the tests use of it, from the packages of this folder.
export { serve } from "@hono/node-server"
export { default as express } from "express"
export { fastify } from "fastify"
export { Hono } from "hono"
export { createServer as createVite } from "vite"
